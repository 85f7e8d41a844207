"""What adapters on PEFT share."""
