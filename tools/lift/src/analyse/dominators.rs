//! Who dominates whom in a graph: Lengauer and Tarjan's algorithm, with path compression.
//!
//! Owns nothing else: nodes are numbers, node 0 is the root. The fact a newcomer gets wrong: the simpler algorithms take quadratic time for graphs that a hostile file can ask for, and so does
//! walking up the tree to answer a question.

const NONE: usize = usize::MAX;

pub struct Dominators {
    /// By node; the root's is itself, and nodes that are not reached have none.
    immediate: Vec<Option<usize>>,
    /// Position in a preorder of the tree, and the end of the node's subtree there.
    span: Vec<(usize, usize)>,
}

impl Dominators {
    /// Of the graph in which `successors[n]` are the successors of node `n`.
    pub fn of(successors: &[Vec<usize>]) -> Dominators {
        let mut search = Search::of(successors);
        let immediate = search.immediate();
        let by_number = |n: usize| search.nodes[n];
        let count = search.nodes.len();
        let mut size = vec![1; count];
        for n in (1..count).rev() {
            size[immediate[n]] += size[n];
        }
        let mut first = vec![0; count];
        let mut next = vec![1; count];
        for n in 1..count {
            let parent = immediate[n];
            first[n] = next[parent];
            next[parent] += size[n];
            next[n] = first[n] + 1;
        }
        let mut d = Dominators { immediate: vec![None; successors.len()], span: vec![(0, 0); successors.len()] };
        for n in 0..count {
            d.immediate[by_number(n)] = Some(by_number(immediate[n]));
            d.span[by_number(n)] = (first[n], first[n] + size[n]);
        }
        d
    }

    /// The last node that every way to `node` passes before it.
    pub fn immediate(&self, node: usize) -> Option<usize> {
        self.immediate[node]
    }

    /// Does every way to `b` pass `a`? Both are reached.
    pub fn dominates(&self, a: usize, b: usize) -> bool {
        self.span[a].0 <= self.span[b].0 && self.span[b].1 <= self.span[a].1
    }
}

/// A depth-first search; everything but `nodes` is in its numbers.
struct Search {
    nodes: Vec<usize>,
    parent: Vec<usize>,
    predecessors: Vec<Vec<usize>>,
    /// Semidominators.
    semi: Vec<usize>,
    /// The node of least semidominator on the way up to `ancestor`.
    best: Vec<usize>,
    ancestor: Vec<usize>,
}

impl Search {
    fn of(successors: &[Vec<usize>]) -> Search {
        let mut number = vec![NONE; successors.len()];
        let (mut nodes, mut parent) = (Vec::new(), Vec::new());
        let mut stack = vec![(0, 0, 0)];
        if successors.is_empty() {
            stack.clear();
        }
        while let Some((node, from, next)) = stack.pop() {
            if next == 0 {
                if number[node] != NONE {
                    continue;
                }
                number[node] = nodes.len();
                nodes.push(node);
                parent.push(from);
            }
            if let Some(&to) = successors[node].get(next) {
                stack.push((node, from, next + 1));
                if number[to] == NONE {
                    stack.push((to, number[node], 0));
                }
            }
        }
        let mut predecessors = vec![Vec::new(); nodes.len()];
        for (n, &node) in nodes.iter().enumerate() {
            for &to in &successors[node] {
                predecessors[number[to]].push(n);
            }
        }
        let all: Vec<usize> = (0..nodes.len()).collect();
        Search { parent, predecessors, semi: all.clone(), best: all, ancestor: vec![NONE; nodes.len()], nodes }
    }

    fn immediate(&mut self) -> Vec<usize> {
        let count = self.nodes.len();
        let mut immediate = vec![0; count];
        let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); count];
        for w in (1..count).rev() {
            for p in std::mem::take(&mut self.predecessors[w]) {
                let u = self.least(p);
                self.semi[w] = self.semi[w].min(self.semi[u]);
            }
            waiting[self.semi[w]].push(w);
            let parent = self.parent[w];
            self.ancestor[w] = parent;
            for v in std::mem::take(&mut waiting[parent]) {
                let u = self.least(v);
                immediate[v] = if self.semi[u] < self.semi[v] { u } else { parent };
            }
        }
        for w in 1..count {
            if immediate[w] != self.semi[w] {
                immediate[w] = immediate[immediate[w]];
            }
        }
        immediate
    }

    /// The node of least semidominator between `v` and the root of its tree, without that root.
    fn least(&mut self, v: usize) -> usize {
        if self.ancestor[v] == NONE {
            return v;
        }
        let mut path = vec![v];
        let mut top = v;
        while self.ancestor[self.ancestor[top]] != NONE {
            top = self.ancestor[top];
            path.push(top);
        }
        let root = self.ancestor[top];
        for pair in (1..path.len()).rev() {
            let (above, below) = (path[pair], path[pair - 1]);
            if self.semi[self.best[above]] < self.semi[self.best[below]] {
                self.best[below] = self.best[above];
            }
            self.ancestor[below] = root;
        }
        self.best[v]
    }
}

#[cfg(test)]
mod tests {
    use super::Dominators;

    /// By definition: `a` dominates `b` if `b` is not reached without `a`.
    fn by_definition(successors: &[Vec<usize>], a: usize, b: usize) -> bool {
        let mut seen = vec![false; successors.len()];
        let mut work = vec![0];
        while let Some(n) = work.pop() {
            if n != a && !std::mem::replace(&mut seen[n], true) {
                work.extend(&successors[n]);
            }
        }
        !seen[b]
    }

    #[test]
    fn agrees_with_the_definition_on_random_graphs() {
        let mut state = 1u64;
        let mut random = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % limit as u64) as usize
        };
        for _ in 0..400 {
            let count = 1 + random(12);
            let mut successors = vec![Vec::new(); count];
            for _ in 0..random(3 * count) {
                let from = random(count);
                successors[from].push(random(count));
            }
            let d = Dominators::of(&successors);
            let reached: Vec<usize> = (0..count).filter(|&n| n == 0 || !by_definition(&successors, count, n)).collect();
            for &b in &reached {
                for &a in &reached {
                    assert_eq!(d.dominates(a, b), by_definition(&successors, a, b), "{a} {b} in {successors:?}");
                }
                let above = d.immediate(b).unwrap();
                let strict = |a: usize| a != b && by_definition(&successors, a, b);
                assert!(b == 0 && above == 0 || strict(above) && reached.iter().all(|&a| !strict(a) || d.dominates(a, above)), "{b} in {successors:?}");
            }
            assert!((0..count).all(|n| reached.contains(&n) || d.immediate(n).is_none()));
        }
    }
}
