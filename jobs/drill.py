"""`xhash drill` as a job.

ray job submit --working-dir . -- python jobs/drill.py --scenario replica-killed,swaps --store s3://bucket/drills
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["drill", *sys.argv[1:]]))
