"""The fault drill on a live cluster; what it judges by is in `xhash_ray.drilling`."""
