"""A first look at a lake: the click rate by position, in SQL, in Polars and as a chart.

python examples/first_look.py            reads QILIN_LAKE or .qilin/lake
"""

from qilin_dagster.lake import connect

# A private connection in memory: every relation is there, and nothing done on it changes the lake.
connection = connect()

# SQL where the question is about rows. bias.* views are one question each; describe tells columns.
connection.sql("""
    select channel, position_bin, n_impressions, round(click_rate, 3) as click_rate
    from bias.click_rate_by_position
    order by channel, position_bin
""").show(max_rows=30)

# Polars where a program goes on with the rows: .pl() hands over a frame without copying text.
requests = connection.sql("""
    select channel, split, n_impressions, n_clicks
    from core.requests
    where n_impressions > 0
""").pl()
print(requests.group_by("channel", "split").mean().sort("channel", "split"))

# A curve for the eye. That it falls is not yet an effect of the place: the ranker put the better
# notes on top (see the head of sql/bias/click_rate_by_position.sql).
curve = connection.sql("""
    select position_bin, click_rate, n_impressions
    from bias.click_rate_by_position
    where channel = 'search'
    order by position_bin
""").fetchall()
highest = max(click_rate for _, click_rate, _ in curve) or 1.0
print("\nClick rate in search by position (11 is every position above 10)")
for position, click_rate, n_impressions in curve:
    bar = "#" * round(40 * click_rate / highest)
    print(f"{position:>3}  {bar:<40}  {click_rate:.3f}  of {n_impressions:,}")

connection.close()
