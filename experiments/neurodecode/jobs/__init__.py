"""Training jobs: one module a kind, each with ``run(ctx)`` that yields predictions."""
