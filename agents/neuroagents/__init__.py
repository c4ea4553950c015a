"""Who proposes: one module per agent."""
