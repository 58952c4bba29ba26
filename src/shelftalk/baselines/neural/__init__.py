"""Baselines that are trained by gradient descent: sasrec, sasrec_sampled, bpr_mf and simplex."""
