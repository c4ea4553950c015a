"""What a study is: specification, ledger, state, and what is derived from them."""
