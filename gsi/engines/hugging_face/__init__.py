"""What both runtimes need from Hugging Face ``transformers``: tokenizer, chat template, parameter count."""
