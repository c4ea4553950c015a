"""The loop: propose, validate, submit, watch, score, record."""
