"""Results of a run: merging, statistics, tables, exports and live status, all from files."""
