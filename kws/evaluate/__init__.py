"""Evaluation of a model on clips (`clips`) and on long recordings (`streams`)."""
