"""The functions of the event log on PostgreSQL, a file for each subject; applied by `migrate` when they changed."""
