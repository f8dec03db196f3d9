"""`xhash serve` as a job.

ray job submit --working-dir . -- python jobs/serve.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
