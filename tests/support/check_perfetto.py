#!/usr/bin/env python3
"""Checks a Perfetto recording with Perfetto's own schema and PyPI's protobuf.

usage: check_perfetto.py FILE
Needs the packages perfetto and protobuf. Prints what was counted as JSON; exits with 1 and
a line for each fault if the recording breaks a rule of the format.
"""

import json
import sys

from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

MONOTONIC, BOOTTIME, REALTIME = 3, 6, 1


def main(path):
    trace = schema.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    faults = []
    counts = dict(packets=0, slices=0, instants=0, counters=0, processes=0, threads=0, tracks=0, clears=0)
    tables = {}
    default_clock = {}
    described = {}
    open_slices = {}
    events = []
    clocks = set()
    texts = {}

    def unknown(message, where):
        if len(UnknownFieldSet(message)):
            faults.append(f"{where}: unknown fields in {message.DESCRIPTOR.name}")
        for field, value in message.ListFields():
            if field.message_type is None:
                continue
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                unknown(part, where)

    for number, packet in enumerate(trace.packet):
        counts["packets"] += 1
        unknown(packet, f"packet {number}")
        sequence = packet.trusted_packet_sequence_id
        if packet.sequence_flags & schema.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            tables[sequence] = dict(names={}, categories={}, keys={}, texts={})
            default_clock.pop(sequence, None)
            counts["clears"] += 1
        if packet.HasField("trace_packet_defaults"):
            default_clock[sequence] = packet.trace_packet_defaults.timestamp_clock_id
        table = tables.get(sequence)
        if packet.HasField("interned_data"):
            data = packet.interned_data
            for kind, entries in (
                ("names", data.event_names),
                ("categories", data.event_categories),
                ("keys", data.debug_annotation_names),
            ):
                table[kind].update((entry.iid, entry.name) for entry in entries)
            table["texts"].update((entry.iid, entry.str.decode()) for entry in data.debug_annotation_string_values)
        if packet.HasField("clock_snapshot"):
            clocks.update(clock.clock_id for clock in packet.clock_snapshot.clocks)
        if packet.HasField("track_descriptor"):
            descriptor = packet.track_descriptor
            if descriptor.uuid not in described:
                kind = "processes" if descriptor.HasField("process") else "threads" if descriptor.HasField("thread") else "tracks"
                counts[kind] += 1
            described[descriptor.uuid] = descriptor
            if descriptor.HasField("parent_uuid") and descriptor.parent_uuid not in described:
                faults.append(f"packet {number}: parent {descriptor.parent_uuid} is not described yet")
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        if event.track_uuid not in described:
            faults.append(f"packet {number}: track {event.track_uuid} is not described")
        if (packet.timestamp_clock_id or default_clock.get(sequence)) != MONOTONIC:
            faults.append(f"packet {number}: not on the monotonic clock")
        refers = event.name_iid or event.category_iids or any(a.name_iid for a in event.debug_annotations)
        if refers and not packet.sequence_flags & schema.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE:
            faults.append(f"packet {number}: refers to interned names without saying so")
        name = event.name or table["names"].get(event.name_iid)
        if event.type in (event.TYPE_SLICE_BEGIN, event.TYPE_INSTANT):
            if name is None:
                faults.append(f"packet {number}: name {event.name_iid} is not interned")
            for category in event.category_iids:
                if category not in table["categories"]:
                    faults.append(f"packet {number}: category {category} is not interned")
        for annotation in event.debug_annotations:
            key = annotation.name or table["keys"].get(annotation.name_iid)
            if key is None:
                faults.append(f"packet {number}: argument name {annotation.name_iid} is not interned")
            if annotation.WhichOneof("value") is None:
                faults.append(f"packet {number}: argument {key} has no value")
            if annotation.HasField("string_value_iid"):
                if annotation.string_value_iid not in table["texts"]:
                    faults.append(f"packet {number}: text {annotation.string_value_iid} is not interned")
                else:
                    texts[table["texts"][annotation.string_value_iid]] = True
        events.append((packet.timestamp, number, event, name))

    # Sorted as Perfetto's own importer sorts them: by time, then by place in the file.
    events.sort(key=lambda e: e[:2])
    spans = []
    for time, number, event, name in events:
        stack = open_slices.setdefault(event.track_uuid, [])
        if event.type == event.TYPE_SLICE_BEGIN:
            stack.append((time, name))
        elif event.type == event.TYPE_SLICE_END:
            if not stack:
                faults.append(f"packet {number}: an end without a begin on track {event.track_uuid}")
            else:
                start, begun = stack.pop()
                spans.append((described[event.track_uuid].name, len(stack), begun, start, time - start))
                counts["slices"] += 1
        elif event.type == event.TYPE_INSTANT:
            counts["instants"] += 1
        elif event.type == event.TYPE_COUNTER:
            counts["counters"] += 1
    for uuid, stack in open_slices.items():
        if stack:
            faults.append(f"track {uuid}: {len(stack)} slices without an end")
    if not {MONOTONIC, BOOTTIME, REALTIME} <= clocks:
        faults.append("no snapshot of the monotonic, boot and real-time clocks")
    print(json.dumps(dict(counts=counts, spans=sorted(sorted(spans, key=lambda s: s[3])[:1000]), texts=sorted(texts)[:100])))
    for fault in faults[:50]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
