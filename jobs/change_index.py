"""`xhash index add|upsert|delete|compact|rollback|info|verify|export|copy` as a job; the verb comes first.

ray job submit --working-dir . -- python jobs/change_index.py add --index s3://bucket/index --codes s3://bucket/more
"""

import sys

from xhash_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", *sys.argv[1:]]))
