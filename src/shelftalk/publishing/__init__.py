"""A finished run as one self-contained recommender folder with a model card; opened, or pushed to a hub.

from shelftalk.publishing import load
model = load("runs/my-shop/published")
model.recommend(["B01", "B07"], k=10)
"""

from shelftalk.publishing.loading import load
from shelftalk.publishing.opening import open_recommender, with_prior

__all__ = ["load", "open_recommender", "with_prior"]
