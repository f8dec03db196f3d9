"""`xhash corpus demo` as a job.

ray job submit --working-dir . -- python jobs/corpus_demo.py --config jobs/recipes/demo.toml
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["corpus", "demo", *sys.argv[1:]]))
