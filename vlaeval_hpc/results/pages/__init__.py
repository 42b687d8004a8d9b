"""Pages of HTML: a run, a sweep, a results root."""
