"""`xhash evaluate` as a job.

ray job submit --working-dir . -- python jobs/evaluate.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
