"""The dashboard: what it shows, as Grafana reads it, and as a picture without Grafana."""
