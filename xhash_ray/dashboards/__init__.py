"""Dashboards out of the table of metrics: for Grafana as JSON, for everybody else as pictures.

    python -m xhash_ray.dashboards write deploy/grafana/dashboards
    python -m xhash_ray.dashboards check --prometheus http://localhost:9090
    python -m xhash_ray.dashboards plot pictures --prometheus http://localhost:9090 --minutes 30

`layout.py` says what stands where; titles, units, legends and queries come from the declarations (`panels.py`).
"""
