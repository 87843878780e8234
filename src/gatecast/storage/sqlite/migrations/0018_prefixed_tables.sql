-- Every table, index and trigger begins with `gatecast_`, so that the log can live in an application's own file. Those of an
-- earlier release are renamed before any migration runs (`schema.py`); the number makes that release refuse the file.
SELECT 1;
