"""The run directory: paths, atomic files, journals, locks, the plan. Everybody's ground floor."""
