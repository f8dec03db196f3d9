"""`xhash pretrain` as a job.

ray job submit --working-dir . -- python jobs/pretrain.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
