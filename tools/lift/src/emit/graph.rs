//! Control-flow graph facts for structuring: reverse postorder, dominators, loop headers, merge points.
//!
//! A loop with several entries (irreducible) gets a *selector*: a node of its own that becomes the loop's only entry. Whoever goes to one of the old entries sets a
//! variable and goes to the selector, which branches on it. Selectors have numbers instead of addresses: `SELECTOR | k`.

use crate::analyse::locals::Loops;
use crate::function::Function;
use std::collections::{HashMap, HashSet};

/// Marks the nodes that are not blocks. No guest address has this bit.
pub(super) const SELECTOR: u64 = 1 << 63;

/// The reached part of a function's graph.
pub(super) struct Graph {
    /// Block starts in reverse postorder, without selectors.
    pub order: Vec<u64>,
    /// Where control enters: the entry block or its selector.
    pub root: u64,
    /// Position of every node in reverse postorder.
    pub number: HashMap<u64, usize>,
    pub predecessors: HashMap<u64, Vec<u64>>,
    /// Nodes immediately dominated by a node.
    pub children: HashMap<u64, Vec<u64>>,
    /// Targets of back edges.
    pub headers: HashSet<u64>,
    /// Nodes with two or more forward predecessors.
    pub merges: HashSet<u64>,
    /// Blocks that are only reached through a selector.
    pub via: HashMap<u64, u64>,
    /// What each selector chooses from.
    pub selectors: HashMap<u64, Vec<u64>>,
}

/// Successors of every node while the graph is being made reducible.
type Edges = HashMap<u64, Vec<u64>>;

impl Graph {
    pub(super) fn of(f: &Function) -> Graph {
        let mut edges: Edges = f.blocks.iter().map(|(at, b)| (*at, b.successors())).collect();
        let mut root = f.entry;
        let mut selectors = HashMap::new();
        let mut via = HashMap::new();
        if !is_reducible(root, &edges) {
            let reached = reverse_postorder(root, &edges);
            // What only the resumable form reaches is no way into a loop here.
            let inside: HashSet<u64> = reached.iter().copied().collect();
            edges.retain(|b, _| inside.contains(b));
            single_entries(reached, &mut root, &mut edges, &mut selectors);
            via = selectors.iter().flat_map(|(s, targets): (&u64, &Vec<u64>)| targets.iter().map(|t| (*t, *s))).collect();
        }
        let nodes = reverse_postorder(root, &edges);
        let number: HashMap<u64, usize> = nodes.iter().enumerate().map(|(k, b)| (*b, k)).collect();
        let predecessors = predecessors(&nodes, &edges);
        let idom = dominators(&nodes, &number, &predecessors);
        let order = nodes.iter().copied().filter(|n| n & SELECTOR == 0).collect();
        let mut g = Graph { order, root, number, predecessors, children: HashMap::new(), headers: HashSet::new(), merges: HashSet::new(), via, selectors };
        for (k, b) in nodes.iter().enumerate() {
            if k > 0 {
                g.children.entry(nodes[idom[k]]).or_default().push(*b);
            }
            let forward = g.predecessors.get(b).map_or(0, |p| p.iter().filter(|p| g.number[*p] < k).count());
            if forward >= 2 {
                g.merges.insert(*b);
            }
            for p in g.predecessors.get(b).into_iter().flatten() {
                let source = g.number[p];
                if source >= k {
                    g.headers.insert(*b);
                    assert!(dominates(&idom, k, source), "a loop with two entries got no selector");
                }
            }
        }
        g
    }

    /// The natural loops whose header is a block.
    pub(super) fn loops(&self) -> Loops {
        let mut loops = Loops::default();
        for header in self.headers.iter().filter(|h| **h & SELECTOR == 0) {
            let mut body = HashSet::from([*header]);
            let mut work: Vec<u64> = self.predecessors[header].iter().copied().filter(|p| self.number[p] >= self.number[header]).collect();
            while let Some(b) = work.pop() {
                if body.insert(b) {
                    work.extend(&self.predecessors[&b]);
                }
            }
            body.retain(|b| b & SELECTOR == 0);
            loops.0.insert(*header, body);
        }
        loops
    }

    /// The node control goes to when the guest goes to block `b`.
    pub(super) fn node(&self, b: u64) -> u64 {
        self.via.get(&b).copied().unwrap_or(b)
    }

    /// The only predecessor, when there is exactly one and it is not a back edge.
    pub(super) fn single_predecessor(&self, b: u64) -> Option<u64> {
        match self.predecessors.get(&b).map(Vec::as_slice) {
            Some([p]) if b != self.root => Some(*p),
            _ => None,
        }
    }
}

fn predecessors(nodes: &[u64], edges: &Edges) -> HashMap<u64, Vec<u64>> {
    let mut p: HashMap<u64, Vec<u64>> = HashMap::new();
    for b in nodes {
        for t in &edges[b] {
            p.entry(*t).or_default().push(*b);
        }
    }
    p
}

/// Does every back edge go to a dominator of its source?
fn is_reducible(root: u64, edges: &Edges) -> bool {
    let order = reverse_postorder(root, edges);
    let number: HashMap<u64, usize> = order.iter().enumerate().map(|(k, b)| (*b, k)).collect();
    let predecessors = predecessors(&order, edges);
    let idom = dominators(&order, &number, &predecessors);
    order.iter().enumerate().all(|(k, b)| predecessors.get(b).into_iter().flatten().all(|p| number[p] < k || dominates(&idom, k, number[p])))
}

/// Gives every cycle within `region` one entry, from the outermost in: a header that is there, or a new selector. `root` changes if it is one of several entries.
fn single_entries(region: Vec<u64>, root: &mut u64, edges: &mut Edges, selectors: &mut HashMap<u64, Vec<u64>>) {
    let mut regions = vec![region];
    while let Some(region) = regions.pop() {
        for cycle in cycles(&region, edges) {
            let inside: HashSet<u64> = cycle.iter().copied().collect();
            let mut entries: Vec<u64> = edges.iter().filter(|(from, _)| !inside.contains(from)).flat_map(|(_, to)| to).filter(|t| inside.contains(t)).copied().collect();
            if inside.contains(root) {
                entries.push(*root);
            }
            entries.sort_unstable();
            entries.dedup();
            if let [header] = entries[..] {
                regions.push(cycle.into_iter().filter(|b| *b != header).collect());
                continue;
            }
            let selector = SELECTOR | selectors.len() as u64;
            for to in edges.values_mut() {
                for t in to.iter_mut().filter(|t| entries.contains(t)) {
                    *t = selector;
                }
                to.sort_unstable();
                to.dedup();
            }
            if entries.contains(root) {
                *root = selector;
            }
            edges.insert(selector, entries.clone());
            selectors.insert(selector, entries);
            regions.push(cycle);
        }
    }
}

/// Strongly connected components of the subgraph on `region` that have a cycle (Kosaraju).
fn cycles(region: &[u64], edges: &Edges) -> Vec<Vec<u64>> {
    let inside: HashSet<u64> = region.iter().copied().collect();
    let within: Edges = region.iter().map(|b| (*b, edges[b].iter().copied().filter(|t| inside.contains(t)).collect())).collect();
    let mut seen = HashSet::new();
    let mut finished = Vec::new();
    for b in region {
        visit(*b, &within, &mut seen, &mut finished);
    }
    let back = predecessors(region, &within);
    let back: Edges = region.iter().map(|b| (*b, back.get(b).cloned().unwrap_or_default())).collect();
    let mut seen = HashSet::new();
    let mut components = Vec::new();
    for b in finished.iter().rev() {
        let mut component = Vec::new();
        visit(*b, &back, &mut seen, &mut component);
        if component.len() > 1 || component.first().is_some_and(|b| within[b].contains(b)) {
            component.sort_unstable();
            components.push(component);
        }
    }
    components
}

/// Depth-first search from `root`; appends nodes as they are finished.
fn visit(root: u64, edges: &Edges, seen: &mut HashSet<u64>, post: &mut Vec<u64>) {
    if !seen.insert(root) {
        return;
    }
    let mut stack = vec![(root, 0)];
    while let Some((b, next)) = stack.last_mut() {
        match edges[b].get(*next) {
            Some(t) => {
                *next += 1;
                if seen.insert(*t) {
                    stack.push((*t, 0));
                }
            }
            None => {
                post.push(*b);
                stack.pop();
            }
        }
    }
}

fn reverse_postorder(root: u64, edges: &Edges) -> Vec<u64> {
    let mut post = Vec::new();
    visit(root, edges, &mut HashSet::new(), &mut post);
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
