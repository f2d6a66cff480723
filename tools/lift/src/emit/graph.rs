//! Control-flow graph facts for structuring: reverse postorder, dominators, loop headers, merge points.
//!
//! A loop with several entries (irreducible) gets a *selector*: a node of its own that becomes the loop's only entry. Whoever goes to one of the old entries sets a
//! variable and goes to the selector, which branches on it. Selectors have numbers instead of addresses: `SELECTOR | k`.
//!
//! The fact a newcomer gets wrong: a node with one predecessor can be gone to from several places, since a branch may have both ways through one selector.

use crate::analyse::dominators::Dominators;
use crate::analyse::locals::Loops;
use crate::function::Function;
use std::collections::{HashMap, HashSet};

/// Marks the nodes that are not blocks. No guest address has this bit.
pub(super) const SELECTOR: u64 = 1 << 63;

/// Blocks of all natural loops together that are listed, beside a multiple of the function's own.
const LOOP_BUDGET: usize = 1 << 20;
/// Loops within each other that get entries of their own. Compilers' code has ten.
const NESTING: usize = 64;

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
    /// Nodes that are gone to from two or more places before them.
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
        let dominators = dominators(&nodes, &number, &edges);
        let order = nodes.iter().copied().filter(|n| n & SELECTOR == 0).collect();
        let mut g = Graph { order, root, number, predecessors, children: HashMap::new(), headers: HashSet::new(), merges: HashSet::new(), via, selectors };
        for (k, b) in nodes.iter().enumerate() {
            if k > 0 {
                let above = dominators.immediate(k).expect("every node of the order is reached");
                g.children.entry(nodes[above]).or_default().push(*b);
            }
            for p in g.predecessors.get(b).into_iter().flatten() {
                let source = g.number[p];
                if source >= k {
                    g.headers.insert(*b);
                    assert!(dominators.dominates(k, source), "a loop with two entries got no selector");
                }
            }
        }
        g.merges = g.merges(f, &nodes);
        g
    }

    fn merges(&self, f: &Function, nodes: &[u64]) -> HashSet<u64> {
        let mut ways: HashMap<u64, usize> = HashMap::new();
        for (k, b) in nodes.iter().enumerate() {
            let targets = if b & SELECTOR == 0 { f.blocks[b].successors() } else { self.selectors[b].clone() };
            for t in targets {
                let node = if b & SELECTOR == 0 { self.node(t) } else { t };
                if self.number[&node] > k {
                    *ways.entry(node).or_default() += 1;
                }
            }
        }
        ways.into_iter().filter(|(_, n)| *n > 1).map(|(b, _)| b).collect()
    }

    /// The natural loops whose header is a block. Of a function with absurdly deep nests some are left out: they are only a help.
    pub(super) fn loops(&self) -> Loops {
        let mut loops = Loops::default();
        let mut budget = LOOP_BUDGET + 64 * self.order.len();
        let mut headers: Vec<u64> = self.headers.iter().copied().filter(|h| h & SELECTOR == 0).collect();
        // Inner loops first: they matter most.
        headers.sort_unstable_by_key(|h| std::cmp::Reverse(self.number[h]));
        for header in &headers {
            let mut body = HashSet::from([*header]);
            let mut work: Vec<u64> = self.predecessors[header].iter().copied().filter(|p| self.number[p] >= self.number[header]).collect();
            while let Some(b) = work.pop() {
                if body.insert(b) {
                    work.extend(&self.predecessors[&b]);
                }
            }
            body.retain(|b| b & SELECTOR == 0);
            let Some(left) = budget.checked_sub(body.len()) else { break };
            budget = left;
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
    let dominators = dominators(&order, &number, edges);
    order.iter().enumerate().all(|(k, b)| edges[b].iter().all(|t| number[t] > k || dominators.dominates(number[t], k)))
}

/// Gives every cycle within `region` one entry, from the outermost in: a header that is there, or a new selector. `root` changes if it is one of several entries.
fn single_entries(region: Vec<u64>, root: &mut u64, edges: &mut Edges, selectors: &mut HashMap<u64, Vec<u64>>) {
    let mut predecessors = predecessors(&region, edges);
    let mut budget = NESTING * region.len();
    let mut regions = vec![region];
    while let Some(region) = regions.pop() {
        for cycle in cycles(&region, edges) {
            let inside: HashSet<u64> = cycle.iter().copied().collect();
            let outside = |b: &u64| predecessors.get(b).into_iter().flatten().any(|p| !inside.contains(p));
            let mut entries: Vec<u64> = cycle.iter().copied().filter(|b| *b == *root || outside(b)).collect();
            if let [header] = entries[..]
                && budget >= cycle.len()
            {
                budget -= cycle.len();
                regions.push(cycle.into_iter().filter(|b| *b != header).collect());
                continue;
            }
            if budget >= cycle.len() {
                budget -= cycle.len();
                regions.push(cycle);
            } else {
                // Too deep a nest: one selector for all of it, which then has no cycle of its own.
                entries = cycle;
            }
            let selector = SELECTOR | selectors.len() as u64;
            let mut sources: Vec<u64> = entries.iter().flat_map(|t| predecessors.insert(*t, vec![selector]).unwrap_or_default()).collect();
            sources.sort_unstable();
            sources.dedup();
            let chosen: HashSet<u64> = entries.iter().copied().collect();
            for from in &sources {
                let to = edges.get_mut(from).expect("a predecessor has edges");
                to.retain(|t| !chosen.contains(t));
                to.push(selector);
            }
            predecessors.insert(selector, sources);
            if entries.contains(root) {
                *root = selector;
            }
            edges.insert(selector, entries.clone());
            selectors.insert(selector, entries);
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

/// Nodes are positions in `order`.
fn dominators(order: &[u64], number: &HashMap<u64, usize>, edges: &Edges) -> Dominators {
    let successors: Vec<Vec<usize>> = order.iter().map(|b| edges[b].iter().map(|t| number[t]).collect()).collect();
    Dominators::of(&successors)
}
