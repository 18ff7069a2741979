// Pods by what a cgroup's path tells of them. Deleted ones keep their names for a while: what their processes did last
// is collected after they are gone. Filled and asked by cluster.ts.
import type { Pod } from './objects.ts';

/** An edge leaves the kernel's table five minutes after its last activity, and asks for its names until then. */
const KEEP_MILLIS = 10 * 60_000;
const MAX_GONE = 10_000;

export class PodIndex {
  readonly #byUid = new Map<string, Pod>();
  readonly #byContainer = new Map<string, Pod>();
  /** Static pods: the cgroup's uid is the manifest's hash. */
  readonly #byHash = new Map<string, Pod>();
  /** Deleted pods that still have their names, oldest first. */
  readonly #gone: { readonly pod: Pod; readonly at: number }[] = [];

  /** The pod that a container id or, for its sandbox, a pod uid of a cgroup belongs to. */
  ofCgroup(containerIds: readonly string[], podUid: string | undefined): Pod | undefined {
    for (const id of containerIds) {
      const pod = this.#byContainer.get(id);
      if (pod !== undefined) return pod;
    }
    return podUid === undefined ? undefined : (this.#byUid.get(podUid) ?? this.#byHash.get(podUid));
  }

  byUid(uid: string): Pod | undefined {
    return this.#byUid.get(uid);
  }

  add(pod: Pod): void {
    this.#byUid.set(pod.uid, pod);
    if (pod.configHash !== '') this.#byHash.set(pod.configHash, pod);
    for (const id of pod.containers) this.#byContainer.set(id, pod);
  }

  /** Forgets this state of a pod, unless another has taken its place. */
  remove(pod: Pod): void {
    if (this.#byUid.get(pod.uid) === pod) this.#byUid.delete(pod.uid);
    if (this.#byHash.get(pod.configHash) === pod) this.#byHash.delete(pod.configHash);
    for (const id of pod.containers) if (this.#byContainer.get(id) === pod) this.#byContainer.delete(id);
  }

  /** The pod was deleted at this time (ms since the epoch). */
  retire(pod: Pod, at: number): void {
    this.#gone.push({ pod, at });
    this.expire(at);
  }

  /** Forgets the pods that were deleted long before. */
  expire(now: number): void {
    for (;;) {
      const [oldest] = this.#gone;
      if (oldest === undefined || (this.#gone.length <= MAX_GONE && now - oldest.at <= KEEP_MILLIS)) return;
      this.#gone.shift();
      this.remove(oldest.pod);
    }
  }
}
