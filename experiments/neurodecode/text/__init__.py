"""English sentences that may be typed, and which of them a language model may be trained on."""
