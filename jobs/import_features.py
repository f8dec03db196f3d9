"""`xhash import` as a job.

ray job submit --working-dir . -- python jobs/import_features.py --config jobs/recipes/wiki/jdsh.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["import", *sys.argv[1:]]))
