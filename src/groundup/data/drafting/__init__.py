"""A recipe drafted for data that was looked at: every choice with its reason, ready to train as it is."""

from groundup.data.drafting.draft import draft_recipe, write_draft

__all__ = ["draft_recipe", "write_draft"]
