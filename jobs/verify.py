"""`xhash verify` as a job.

ray job submit --working-dir . -- python jobs/verify.py --codes s3://bucket/codes
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
