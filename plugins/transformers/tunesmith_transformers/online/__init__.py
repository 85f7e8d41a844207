"""Learning from a model's own answers, step by step: what the trainers `ppo`, `grpo` and `rloo` share.

A step draws answers to a batch of prompts, scores them, and learns from them; `loop.Loop` is that, and a trainer brings
how answers are weighed and what the loss is.
"""
