"""How well a model hears: on clips (`clips`) and on long recordings (`streams`)."""
