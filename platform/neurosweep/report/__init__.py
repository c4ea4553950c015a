"""Tables, figures and the page of a study, from the ledger and the run folders."""
