"""`xhash extract` as a job.

ray job submit --working-dir . -- python jobs/extract.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["extract", *sys.argv[1:]]))
