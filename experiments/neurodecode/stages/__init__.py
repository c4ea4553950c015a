"""Stages of a pipeline: every module here has ``run(ctx)``, and `_facts` says what each uses.

A stage reads the stores, and what the stages it needs have made from ``ctx.inputs``; what it makes
it writes into the folder ``out`` of its attempt. What it yields are predictions of validation
items.
"""
