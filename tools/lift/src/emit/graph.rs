//! Control-flow graph facts for structuring: reverse postorder, dominators, loop headers, merge points.

use crate::function::Function;
use std::collections::{HashMap, HashSet};

/// The reached part of a function's graph.
pub(super) struct Graph {
    /// Block starts in reverse postorder; the entry is first.
    pub order: Vec<u64>,
    /// Position in `order`.
    pub number: HashMap<u64, usize>,
    pub predecessors: HashMap<u64, Vec<u64>>,
    /// Blocks immediately dominated by a block.
    pub children: HashMap<u64, Vec<u64>>,
    /// Targets of back edges.
    pub headers: HashSet<u64>,
    /// Blocks with two or more forward predecessors.
    pub merges: HashSet<u64>,
    /// Every back edge goes to a dominator of its source.
    pub reducible: bool,
}

impl Graph {
    pub(super) fn of(f: &Function) -> Graph {
        let order = reverse_postorder(f);
        let number: HashMap<u64, usize> = order.iter().enumerate().map(|(k, b)| (*b, k)).collect();
        let mut predecessors: HashMap<u64, Vec<u64>> = HashMap::new();
        for b in &order {
            for t in f.blocks[b].successors() {
                predecessors.entry(t).or_default().push(*b);
            }
        }
        let idom = dominators(&order, &number, &predecessors);
        let mut g = Graph { children: HashMap::new(), headers: HashSet::new(), merges: HashSet::new(), reducible: true, order, number, predecessors };
        for (k, b) in g.order.iter().enumerate().skip(1) {
            g.children.entry(g.order[idom[k]]).or_default().push(*b);
        }
        for (k, b) in g.order.iter().enumerate() {
            let forward = g.predecessors.get(b).map_or(0, |p| p.iter().filter(|p| g.number[*p] < k).count());
            if forward >= 2 {
                g.merges.insert(*b);
            }
            for p in g.predecessors.get(b).into_iter().flatten() {
                let source = g.number[p];
                if source >= k {
                    g.headers.insert(*b);
                    g.reducible &= dominates(&idom, k, source);
                }
            }
        }
        g
    }

    /// The only predecessor, when there is exactly one and it is not a back edge.
    pub(super) fn single_predecessor(&self, b: u64) -> Option<u64> {
        match self.predecessors.get(&b).map(Vec::as_slice) {
            Some([p]) if b != self.order[0] => Some(*p),
            _ => None,
        }
    }
}

fn reverse_postorder(f: &Function) -> Vec<u64> {
    let mut seen = HashSet::from([f.entry]);
    let mut stack = vec![(f.entry, f.blocks[&f.entry].successors(), 0)];
    let mut post = Vec::new();
    while let Some((b, successors, next)) = stack.last_mut() {
        match successors.get(*next) {
            Some(t) => {
                let t = *t;
                *next += 1;
                if seen.insert(t) {
                    stack.push((t, f.blocks[&t].successors(), 0));
                }
            }
            None => {
                post.push(*b);
                stack.pop();
            }
        }
    }
    post.reverse();
    post
}

/// Immediate dominators as positions in `order` (Cooper, Harvey, Kennedy).
fn dominators(order: &[u64], number: &HashMap<u64, usize>, predecessors: &HashMap<u64, Vec<u64>>) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let mut idom = vec![NONE; order.len()];
    idom[0] = 0;
    loop {
        let mut changed = false;
        for k in 1..order.len() {
            let mut new = NONE;
            for p in &predecessors[&order[k]] {
                let mut a = number[p];
                if idom[a] == NONE {
                    continue;
                }
                if new == NONE {
                    new = a;
                    continue;
                }
                let mut b = new;
                while a != b {
                    while a > b {
                        a = idom[a];
                    }
                    while b > a {
                        b = idom[b];
                    }
                }
                new = a;
            }
            if idom[k] != new {
                idom[k] = new;
                changed = true;
            }
        }
        if !changed {
            return idom;
        }
    }
}

fn dominates(idom: &[usize], a: usize, mut b: usize) -> bool {
    while b > a {
        b = idom[b];
    }
    a == b
}
