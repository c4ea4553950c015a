"""The language-model stage: words of an encoder's features to sentences, by a LoRA-tuned LM."""
