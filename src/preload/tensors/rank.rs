//! Which tensors a pipeline rank needs, by their names.
//!
//! The rule: whole layers, split as vLLM splits them (`get_pp_indices`); embeddings go to the first
//! rank, the final norm and the head to the last, embeddings there too where no head is stored
//! (they are tied). Other stacks of layers (a vision tower) go to the first. What has no known
//! place goes to every rank. A model with fewer layers than ranks, or none, is split evenly by bytes
//! in the order of its files. Tensor-parallel ranks take a part of almost every tensor, which no
//! rule by whole tensors gives.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One of several ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// From 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl FromStr for Rank {
    type Err = String;

    fn from_str(text: &str) -> Result<Rank, String> {
        let wrong = || "not a rank; write I/N with I from 0 to N-1, as 0/4".to_owned();
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let rank = Rank { index: index.parse().map_err(|_| wrong())?, count: count.parse().map_err(|_| wrong())? };
        if rank.index < rank.count { Ok(rank) } else { Err(wrong()) }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Words before a layer's number.
const STACKS: [&str; 6] = ["layers", "layer", "h", "blocks", "block", "transformer_blocks"];
const EMBEDDINGS: [&str; 8] =
    ["embed_tokens", "embed_in", "tok_embeddings", "word_embeddings", "embeddings", "embed_positions", "wte", "wpe"];
const HEADS: [&str; 4] = ["lm_head", "embed_out", "output", "score"];
const LAST_NORMS: [&str; 5] = ["norm", "norm_f", "ln_f", "final_layernorm", "final_layer_norm"];

/// Where a tensor belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Last,
    FirstAndLast,
    Layer(usize),
    All,
}

/// Says of each tensor, given by name and bytes in the order of the files, whether a rank needs it.
pub fn needed(rank: Rank, tensors: &[(&str, u64)]) -> Vec<bool> {
    // The stack with the most bytes is the one that a pipeline splits.
    let mut stacks: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (name, bytes) in tensors {
        if let Some((stack, layer)) = layer_of(name) {
            let entry = stacks.entry(stack).or_default();
            entry.0 += bytes;
            entry.1 = entry.1.max(layer.saturating_add(1));
        }
    }
    let main = stacks.iter().max_by_key(|(_, (bytes, _))| *bytes).map(|(stack, (_, layers))| (*stack, *layers));
    let Some((main, layers)) = main.filter(|(_, layers)| *layers >= rank.count) else {
        return evenly(rank, tensors);
    };
    let own = layers_of(rank, layers);
    let mut outside = tensors.iter().filter(|(name, _)| layer_of(name).is_none());
    let has_head = outside.any(|(name, _)| parts(name).any(|part| HEADS.contains(&part)));
    let is_needed = |name: &str| match place(name, main, has_head) {
        Place::First => rank.index == 0,
        Place::Last => rank.index + 1 == rank.count,
        Place::FirstAndLast => rank.index == 0 || rank.index + 1 == rank.count,
        Place::Layer(layer) => own.contains(&layer),
        Place::All => true,
    };
    tensors.iter().map(|(name, _)| is_needed(name)).collect()
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('.')
}

/// The stack that a tensor is in and its layer's number: "model.layers" and 3.
fn layer_of(name: &str) -> Option<(&str, usize)> {
    let mut at = 0;
    let mut before = "";
    for part in parts(name) {
        if STACKS.contains(&before)
            && let Ok(layer) = part.parse()
        {
            return Some((&name[..at - 1], layer));
        }
        before = part;
        at += part.len() + 1;
    }
    None
}

fn place(name: &str, main: &str, has_head: bool) -> Place {
    match layer_of(name) {
        Some((stack, layer)) if stack == main => return Place::Layer(layer),
        Some(_) => return Place::First,
        None => {}
    }
    let any = |words: &[&str]| parts(name).any(|part| words.contains(&part));
    match () {
        () if any(&HEADS) => Place::Last,
        () if any(&EMBEDDINGS) && has_head => Place::First,
        () if any(&EMBEDDINGS) => Place::FirstAndLast,
        () if any(&LAST_NORMS) => Place::Last,
        () => Place::All,
    }
}

/// Layers of a rank. What is left over goes to the ranks before the last, which has the head.
fn layers_of(rank: Rank, layers: usize) -> std::ops::Range<usize> {
    let (each, left) = (layers / rank.count, layers % rank.count);
    let size = |index: usize| {
        let from_end = rank.count - 1 - index;
        each + usize::from((1..=left).contains(&from_end))
    };
    let start: usize = (0..rank.index).map(size).sum();
    start..start + size(rank.index)
}

fn evenly(rank: Rank, tensors: &[(&str, u64)]) -> Vec<bool> {
    let all = tensors.iter().map(|(_, bytes)| u128::from(*bytes)).sum::<u128>().max(1);
    let mut at = 0u128;
    let mut owner = |bytes: u64| {
        let owner = at * rank.count as u128 / all;
        at += u128::from(bytes);
        owner.min(rank.count as u128 - 1)
    };
    tensors.iter().map(|(_, bytes)| owner(*bytes) == rank.index as u128).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rank: &str, tensors: &[(&str, u64)]) -> Vec<String> {
        let needed = needed(rank.parse().unwrap(), tensors);
        tensors.iter().zip(needed).filter(|(_, needed)| *needed).map(|((name, _), _)| (*name).to_owned()).collect()
    }

    #[test]
    fn ranks_are_read() {
        assert_eq!("0/4".parse(), Ok(Rank { index: 0, count: 4 }));
        for text in ["", "1", "4/4", "1/0", "-1/2", "a/b", "1/2/3"] {
            assert!(text.parse::<Rank>().is_err(), "{text}");
        }
    }

    #[test]
    fn layers_are_split_as_vllm_does() {
        let sizes = |layers: usize, count: usize| {
            (0..count).map(|index| layers_of(Rank { index, count }, layers).len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(32, 4), [8, 8, 8, 8]);
        assert_eq!(sizes(61, 4), [15, 15, 16, 15]);
        assert_eq!(sizes(35, 4), [9, 9, 9, 8]);
        assert_eq!(sizes(7, 7), [1; 7]);
    }

    const LLAMA: [(&str, u64); 7] = [
        ("model.embed_tokens.weight", 10),
        ("model.layers.0.self_attn.q_proj.weight", 10),
        ("model.layers.1.mlp.up_proj.weight", 10),
        ("model.layers.1.post_attention_layernorm.weight", 1),
        ("vision_tower.encoder.layers.0.weight", 5),
        ("model.norm.weight", 1),
        ("lm_head.weight", 10),
    ];

    #[test]
    fn each_rank_has_its_layers_and_the_ends() {
        assert_eq!(
            of("0/2", &LLAMA),
            [
                "model.embed_tokens.weight",
                "model.layers.0.self_attn.q_proj.weight",
                "vision_tower.encoder.layers.0.weight"
            ]
        );
        assert_eq!(of("1/2", &LLAMA).len(), 4);
        assert_eq!(of("0/1", &LLAMA).len(), LLAMA.len());
        assert!(of("1/2", &LLAMA[..6]).contains(&"model.embed_tokens.weight".to_owned()), "tied embeddings");
        let gpt2 = [("wte.weight", 5), ("h.0.attn.bias", 1), ("h.1.attn.bias", 1), ("ln_f.bias", 1), ("odd", 1)];
        assert_eq!(of("1/2", &gpt2), ["wte.weight", "h.1.attn.bias", "ln_f.bias", "odd"]);
    }

    #[test]
    fn what_has_no_layers_is_split_evenly() {
        let plain = [("a", 10), ("b", 10), ("c", 10), ("d", 10)];
        assert_eq!(of("0/2", &plain), ["a", "b"]);
        assert_eq!(of("1/2", &plain), ["c", "d"]);
        assert_eq!(of("2/3", &LLAMA).len() + of("1/3", &LLAMA).len() + of("0/3", &LLAMA).len(), LLAMA.len());
        assert_eq!(of("0/2", &[("a", 0), ("b", 0)]), ["a", "b"]);
    }

    proptest! {
        /// No tensor is lost, however names and ranks are.
        #[test]
        fn every_tensor_has_a_rank(
            names in prop::collection::vec("(model\\.layers\\.[0-9]{1,2}|h\\.[0-9]|lm_head|embed_tokens|x)\\.(w|b)", 1..20),
            sizes in prop::collection::vec(0u64..100, 20),
            count in 1usize..6,
        ) {
            let tensors: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(sizes).collect();
            let mut owners = vec![0; tensors.len()];
            for index in 0..count {
                for (owner, needed) in owners.iter_mut().zip(needed(Rank { index, count }, &tensors)) {
                    *owner += usize::from(needed);
                }
            }
            prop_assert!(owners.iter().all(|owners| *owners >= 1), "{:?} {:?}", tensors, owners);
        }
    }
}
