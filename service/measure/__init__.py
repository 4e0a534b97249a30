"""Pure arithmetic: metrics, intervals, paired tests, gates, A/B statistics, bucketing.

Nothing here has a session, a clock or a socket, and nothing here imports the rest of the service.
"""
