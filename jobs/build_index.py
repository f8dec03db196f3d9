"""`xhash index build` as a job.

ray job submit --working-dir . -- python jobs/build_index.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", "build", *sys.argv[1:]]))
