"""What watches the system: its alerts, by the real promtool."""
