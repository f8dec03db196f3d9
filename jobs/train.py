"""`xhash train` as a job.

ray job submit --working-dir . -- python jobs/train.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
