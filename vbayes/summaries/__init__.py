"""Tables and verdicts in words. Nothing here needs torch."""
