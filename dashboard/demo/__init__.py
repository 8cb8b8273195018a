"""Demo data set: a simulated fleet with a week of history, groups, rules, alerts and silences."""
