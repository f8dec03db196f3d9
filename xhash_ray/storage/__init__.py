"""Files and objects: paths that may be local or s3://, the formats others rely on, written so that a reader
never sees half of anything."""
