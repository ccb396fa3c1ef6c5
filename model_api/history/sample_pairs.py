"""Articles with their summaries, written for this project, for who tries a summarizer: system B's samples."""

_TEXTS = """
The town's only bridge was closed in March after divers found cracks in two of its pillars. Repairs were to take
six weeks, but a flood in May washed away the scaffolding. On Thursday the mayor said that the last tests had
gone well, and that the bridge would open on Monday, first to buses and bicycles, and to all others in June.
--
The bridge, closed since March, opens to buses and bicycles on Monday.

A small bakery in the harbour district has begun to sell the bread of the day before at half its price. Its
owner says that she used to throw away forty loaves a week. Now four are left, which go to a farm. Three other
bakeries have asked her how she does it, and the city is thinking of a prize for shops that waste little.
--
A bakery sells yesterday's bread at half price and wastes almost none.

Researchers who had counted swifts for twenty years were surprised this summer: for the first time the number of
nests grew. They think that boxes under the roofs of new schools are the reason, since nearly all new nests were
found there. Whether the birds come back will be known in spring, when the count begins again.
--
Nest boxes on new schools may have raised the number of swifts.

The regional railway will run trains all night on Fridays and Saturdays from next month on. It tried this for
half a year on one line, where ridership after midnight doubled and the last bus, often full, had seats again.
Unions had asked for longer breaks for drivers, to which the railway agreed last week.
--
Trains will run all night at weekends after a successful trial.

After two dry winters the lake's level is a metre and a half below what is usual. Boats lie on the mud, and the
ferry to the island lands at a pontoon that soldiers built. The water company asks everybody to water gardens in
the evening only. It expects the lake to recover by April if the autumn brings ordinary rain.
--
The lake is far below its usual level, and people are asked to save water.

A library in the hills lends more than books. Since January its visitors have borrowed drills, a tent, two
sewing machines and a telescope, which is out every clear night. Nothing has been lost so far. The librarian,
who began with her own tools, now has a list of ninety things, and a shed that is too small.
--
A library lends tools and a telescope, and has lost nothing so far.
"""
PAIRS: list[tuple[str, str]] = [
    (article.replace("\n", " "), summary)
    for article, summary in (text.split("\n--\n") for text in _TEXTS.strip().split("\n\n"))
]
