"""Demo data set: a simulated fleet with a week of history, groups, rules, alerts, silences and a status page."""
