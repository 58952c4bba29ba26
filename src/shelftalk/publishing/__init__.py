"""A finished run as one self-contained recommender folder with a model card; opened, or pushed to a hub.

from shelftalk.publishing import open_recommender
model = open_recommender("runs/my-shop/published")
model.recommend([Request("anyone", ("B01", "B07"))], k=10)
"""

from shelftalk.publishing.opening import open_recommender, with_prior

__all__ = ["open_recommender", "with_prior"]
