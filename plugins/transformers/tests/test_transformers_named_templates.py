"""Chat templates by name write what the models' publishers write, and ask for the tokens that they need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith import Context, DataError
from tunesmith.testing import tiny_tokenizer
from tunesmith_transformers.loading.chat_template import Refused, shield
from tunesmith_transformers.loading.named_templates import NAMED, TEMPLATES, text_of, use
from tunesmith_transformers.sources import claims, fitting
from tunesmith_transformers.sources.factories import directory_tokenizer
from tunesmith_transformers.tokens.encoding import encode
from tunesmith_transformers.tokens.ends import end_texts
from tunesmith_transformers.training.settings import ModelSettings

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
ANSWER, AGAIN = {"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye"}
TALK = [SYSTEM, USER, ANSWER, AGAIN]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Bonn"}}}],
}
RESULT = {"role": "tool", "content": "18 degrees"}
BEGIN, END = "<s>", "</s>"

#: Written by hand from the models' published templates and prompt formats, without the library.
EXPECTED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "qwen": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello!</s>[INST]Bye[/INST]",
    "mistral-7b": "<s>[INST] Hi[/INST] Hello!</s>[INST] Be brief.\n\nBye[/INST]",
    "phi": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n"
    "<|user|>\nBye<|end|>\n<|assistant|>\n",
    "phi4": "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
    "<|im_start|>assistant<|im_sep|>Hello!<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|>"
    "<|im_start|>assistant<|im_sep|>",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n<|user|>\nBye</s>\n"
    "<|assistant|>\n",
}
QWEN_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>\n"
    '{"type": "function", "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", '
    '"properties": {}}}}\n</tools>\n\nFor each function call, return a json object with function name and arguments '
    "within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
)
QWEN_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call><|im_end|>\n'
QWEN_RESULT = "<|im_start|>user\n<tool_response>\n18 degrees\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
WITH_TOOLS = {
    "qwen": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n"
    + QWEN_TOOLS
    + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    + QWEN_CALL
    + QWEN_RESULT,
    "qwen3": "<|im_start|>system\n"
    + QWEN_TOOLS
    + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    + QWEN_CALL
    + QWEN_RESULT,
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a "
    "function call with its proper arguments that best answers the given prompt.\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}. Do not use variables.\n\n'
    + json.dumps(TOOL, indent=4)
    + "\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "weather", "parameters": {"city": "Bonn"}}<|eot_id|>'
    '<|start_header_id|>ipython<|end_header_id|>\n\n"18 degrees"<|eot_id|>'
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
}


def tokenizer_of(name: str):
    """The tiny tokenizer with all tokens that a template needs, and its template."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": BEGIN, "eos_token": END})
    tokenizer.add_tokens(list(NAMED[name].tokens), special_tokens=True)
    use(tokenizer, Path(name), text_of(Path(name), Path(name)), Path("here"))
    shield(tokenizer)
    return tokenizer


def test_every_name_has_a_template_and_a_test():
    assert set(NAMED) == set(EXPECTED) == {path.stem for path in TEMPLATES.glob("*.jinja")}


@pytest.mark.parametrize("name", NAMED)
def test_a_conversation_is_what_the_publisher_writes(name):
    text = tokenizer_of(name).apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert text == EXPECTED[name]


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_tools_calls_and_results_are_what_the_publisher_writes(name):
    talk = [USER, CALL, RESULT]
    text = tokenizer_of(name).apply_chat_template(talk, [TOOL], tokenize=False, add_generation_prompt=True)
    assert text == WITH_TOOLS[name]


def test_qwen_without_a_system_prompt_says_who_it_is_and_qwen3_does_not():
    start = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    asked = "<|im_start|>user\nHi<|im_end|>\n"
    assert tokenizer_of("qwen").apply_chat_template([USER], tokenize=False) == start + asked
    assert tokenizer_of("qwen3").apply_chat_template([USER], tokenize=False) == asked


def test_qwen3_writes_the_reasoning_of_the_last_turn_alone():
    thinking = {**ANSWER, "reasoning_content": "A greeting."}
    tokenizer = tokenizer_of("qwen3")
    last = tokenizer.apply_chat_template([USER, thinking], tokenize=False)
    assert last.endswith("<|im_start|>assistant\n<think>\nA greeting.\n</think>\n\nHello!<|im_end|>\n")
    inline = {**ANSWER, "content": "<think>\nA greeting.\n</think>\n\nHello!"}
    assert tokenizer.apply_chat_template([USER, inline], tokenize=False) == last
    earlier = tokenizer.apply_chat_template([USER, thinking, AGAIN], tokenize=False, add_generation_prompt=True)
    assert "think" not in earlier
    quick = tokenizer.apply_chat_template(
        [USER], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )  # fmt: skip
    assert quick.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("name", ["gemma", "mistral", "mistral-7b", "phi", "phi4", "zephyr"])
def test_formats_without_tools_refuse_their_results(name):
    with pytest.raises(Refused):
        tokenizer_of(name).apply_chat_template([USER, CALL, RESULT], tokenize=False)


@pytest.mark.parametrize("name", NAMED)
def test_training_supervises_each_answer_to_the_token_at_which_serving_stops(name):
    from tunesmith import Records

    tokenizer = tokenizer_of(name)
    records = Records([{"messages": [USER, ANSWER]}], ["a"])
    (found,) = encode(records, "messages", tokenizer)
    trained = tokenizer.decode([token for token in found.labels if token >= 0])
    end = (NAMED[name].ends or (END,))[0]
    thought = "<think>\n\n</think>\n\n" if name == "qwen3" else ""
    assert trained.strip() == f"{thought}Hello!{end}"
    assert end in end_texts(tokenizer)


def test_a_vocabulary_that_lacks_tokens_is_refused_by_the_plan_and_by_the_run(tiny_folder, tmp_path):
    settings = ModelSettings(source=str(tiny_folder), chat_template=Path("phi"))
    for refuse in (claims.check_directory, lambda s, folder: directory_tokenizer(s, Context(folder=folder))):
        with pytest.raises(DataError, match="'phi' writes tokens that the vocabulary lacks") as refused:
            refuse(settings, tmp_path)
        assert 'add_tokens = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]' in refused.value.fix
    assert claims.check_directory(ModelSettings(source=str(tiny_folder), chat_template=Path("chatml")), tmp_path) == []


@pytest.mark.parametrize(
    ("written", "fix"), [("chatlm", "Did you mean 'chatml'?"), ("x.jinja", "Mend `chat_template`")]
)
def test_a_name_that_is_none_is_refused_with_the_nearest(tiny_folder, tmp_path, written, fix):
    settings = ModelSettings(source=str(tiny_folder), chat_template=Path(written))
    with pytest.raises(DataError, match="there is no chat template") as refused:
        claims.check_directory(settings, tmp_path)
    assert refused.value.fix.startswith(fix)


@pytest.mark.parametrize("kind", ["wheel", "hub"])
def test_a_vocabulary_of_the_cache_that_lacks_tokens_is_refused_by_the_plan(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path))
    context = Context(folder=tmp_path)
    places = {
        "wheel": ("wheel:tiny==1.0", context.cache / "wheels" / "tiny-1.0" / "content" / "tiny"),
        "hub": ("owner/tiny", tmp_path / "hub" / "models--owner--tiny" / "snapshots" / "abc"),
    }
    source, folder = places[kind]
    settings = ModelSettings(source=source, chat_template=Path("gemma"))
    check = getattr(fitting, kind)
    assert check(settings, None, None, context) == []  # nothing was fetched
    folder.mkdir(parents=True)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    with pytest.raises(DataError, match="writes tokens that the vocabulary lacks: <start_of_turn>"):
        check(settings, None, None, context)
    check(ModelSettings(source=source, chat_template=Path("zephyr")), None, None, context)
