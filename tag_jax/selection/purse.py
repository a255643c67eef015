"""Knapsacks: the most that networks within a budget are worth together."""

import numpy as np

_MAX_COUNTS = 256  # Ways to spend a budget on networks of few prices that are looked at.


class Purse:
    """Knapsacks of networks whose prices fall into few classes, or else fractional ones.

    Attributes:
      costs: `[N]`, of the networks.
      most: networks that are bought at most.
      prices: the different costs, ascending.
      steps: up to 17 of the prices, of which `step_of` `[N]` names the last that a network costs.
    """

    def __init__(self, costs, most):
        self.costs = costs
        self.most = most
        self.prices, self.kinds = np.unique(costs, return_inverse=True)
        self.counts = {}
        self.steps = self.prices[:: len(self.prices) // 16 + 1]
        self.step_of = np.searchsorted(self.steps, costs, side='right') - 1

    def slots(self, left):
        """How many networks some money can buy."""
        if left >= self.most * self.prices[0]:
            return self.most
        return int(left / self.prices[0])

    def spend(self, worth, networks, left):
        """The most that networks within a budget are worth together, and their places `[p]`.

        With many different prices it is an upper bound, where a part of a network may be bought.

        Args:
          worth: `[n]`, 0 or more.
          networks: `[n]`, indices.
          left: the budget.
        """
        if left < self.prices[0]:
            return 0.0, np.zeros(0, int)
        counts = self.ways(left)
        if counts is None:
            return self.spend_in_parts(worth, self.costs[networks], left)
        totals, places = 0.0, []
        kinds = self.kinds[networks]
        for kind, most in enumerate(counts.max(axis=0).tolist()):
            place = np.flatnonzero(kinds == kind) if counts.shape[1] > 1 else np.arange(len(worth))
            if most < len(place):
                place = place[np.argpartition(-worth[place], most)[:most]]
            place = place[np.argsort(-worth[place])]
            sums = np.concatenate([[0.0], np.cumsum(worth[place])])
            totals = totals + sums[np.minimum(counts[:, kind], len(place))]
            places.append(place)
        best = int(np.argmax(totals))
        chosen = np.concatenate([place[:n] for place, n in zip(places, counts[best], strict=True)])
        return totals[best], chosen[worth[chosen] > 0]

    def spend_in_parts(self, worth, costs, left):
        """The same where a part of the last network may be bought: an upper bound.

        Args:
          worth: `[n]`, 0 or more.
          costs: `[n]`.
          left: the budget.
        """
        order = np.flatnonzero(worth > 0)
        with np.errstate(over='ignore'):
            order = order[np.argsort(costs[order] / worth[order], kind='stable')]
        spent = np.cumsum(costs[order])
        whole = int(np.searchsorted(spent, left, side='right'))
        value = worth[order[:whole]].sum()
        if whole < len(order):
            before = spent[whole - 1] if whole else 0.0
            value += worth[order[whole]] * (left - before) / costs[order[whole]]
        return value, order[:whole]

    def ways(self, left):
        """How many networks of each price some money buys, `[Q, C]`; None if in too many ways."""
        if left not in self.counts:
            ways = [((), left)]
            for price in self.prices[:0:-1]:
                ways = [
                    ((count, *way), rest - count * price)
                    for way, rest in ways
                    for count in range(min(self.most, int(rest / price)) + 1)
                ]
                if len(ways) > _MAX_COUNTS:
                    break
            else:
                ways = [(self.slots(rest), *way) for way, rest in ways]
            self.counts[left] = np.array(ways) if len(ways) <= _MAX_COUNTS else None
        return self.counts[left]
