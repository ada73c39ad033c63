"""Mutation of the tests: a change of the core that no test notices shows what the tests do not hold.

mutmut makes the changes and runs the tests. `survivors.toml` lists those that no test can notice, each with a reason.
"""
