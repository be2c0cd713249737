/**
 * The fields of compose and of Kubernetes' kinds that our files use, as their specifications name and nest them. Strict: a
 * field that is misspelt, in the wrong place or of the wrong type is found, as the cluster would find it.
 */
import { z } from "zod";

const strict = z.strictObject;
const seconds = z.int().min(0);
const strings = z.record(z.string(), z.string());
const duration = z.string().regex(/^(\d+(\.\d+)?(us|ms|s|m|h))+$/);

/** compose-spec: `services.*`, `volumes.*`. */
export const composeFile = strict({
  services: z.record(
    z.string(),
    strict({
      build: strict({ context: z.string(), dockerfile: z.string() }),
      command: z.array(z.string()),
      ports: z.array(z.string().regex(/^\d+:\d+$/)),
      volumes: z.array(z.string().regex(/^[\w./-]+:\/[\w/]+(:ro)?$/)),
      read_only: z.boolean(),
      tmpfs: z.array(z.string()),
      stop_grace_period: duration,
      restart: z.enum(["no", "always", "on-failure", "unless-stopped"]),
      healthcheck: strict({
        test: z.tuple([z.enum(["CMD", "CMD-SHELL"])]).rest(z.string()),
        interval: duration,
        timeout: duration,
        start_period: duration,
      }),
    }),
  ),
  volumes: z.record(z.string(), strict({})),
});

const metadata = strict({
  name: z.string().regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/),
  labels: strings.optional(),
});
const selector = strict({ matchLabels: strings });
const quantity = z.string().regex(/^\d+(\.\d+)?(m|Ki|Mi|Gi|k|M|G)?$/);
const port = z.int().min(1).max(65535);

const probe = strict({
  httpGet: strict({ path: z.string().startsWith("/"), port: z.union([port, z.string().max(15)]) }),
  periodSeconds: seconds.optional(),
  failureThreshold: z.int().min(1).optional(),
});

const container = strict({
  name: z.string(),
  image: z.string(),
  args: z.array(z.string()),
  ports: z.array(strict({ name: z.string().max(15), containerPort: port })),
  startupProbe: probe,
  readinessProbe: probe,
  livenessProbe: probe,
  lifecycle: strict({ preStop: strict({ sleep: strict({ seconds }) }) }),
  resources: strict({
    requests: strict({ cpu: quantity, memory: quantity }),
    limits: strict({ memory: quantity }),
  }),
  securityContext: strict({
    allowPrivilegeEscalation: z.boolean(),
    readOnlyRootFilesystem: z.boolean(),
    capabilities: strict({ drop: z.array(z.string()) }),
  }),
  volumeMounts: z.array(
    strict({ name: z.string(), mountPath: z.string().startsWith("/"), readOnly: z.boolean().optional() }),
  ),
});

const volume = z.union([
  strict({
    name: z.string(),
    persistentVolumeClaim: strict({ claimName: z.string(), readOnly: z.boolean().optional() }),
  }),
  strict({ name: z.string(), secret: strict({ secretName: z.string() }) }),
  strict({
    name: z.string(),
    emptyDir: strict({ medium: z.literal("Memory").optional(), sizeLimit: quantity.optional() }),
  }),
]);

/** By kind, of `apiVersion`. */
export const kubernetesObject = z.discriminatedUnion("kind", [
  strict({
    apiVersion: z.literal("apps/v1"),
    kind: z.literal("Deployment"),
    metadata,
    spec: strict({
      replicas: z.int().min(0),
      selector,
      strategy: strict({ rollingUpdate: strict({ maxUnavailable: z.int(), maxSurge: z.int() }) }),
      template: strict({
        metadata: strict({ labels: strings, annotations: strings }),
        spec: strict({
          terminationGracePeriodSeconds: seconds,
          securityContext: strict({
            runAsNonRoot: z.boolean(),
            runAsUser: z.int(),
            seccompProfile: strict({ type: z.enum(["RuntimeDefault", "Unconfined", "Localhost"]) }),
          }),
          containers: z.array(container).min(1),
          volumes: z.array(volume),
        }),
      }),
    }),
  }),
  strict({
    apiVersion: z.literal("v1"),
    kind: z.literal("Service"),
    metadata,
    spec: strict({
      selector: strings,
      ports: z.array(strict({ name: z.string(), port, targetPort: z.union([port, z.string()]) })),
    }),
  }),
  strict({
    apiVersion: z.literal("policy/v1"),
    kind: z.literal("PodDisruptionBudget"),
    metadata,
    spec: strict({ minAvailable: z.int(), selector }),
  }),
  strict({
    apiVersion: z.literal("autoscaling/v2"),
    kind: z.literal("HorizontalPodAutoscaler"),
    metadata,
    spec: strict({
      scaleTargetRef: strict({ apiVersion: z.string(), kind: z.string(), name: z.string() }),
      minReplicas: z.int().min(1),
      maxReplicas: z.int().min(1),
      metrics: z.array(
        strict({
          type: z.literal("Resource"),
          resource: strict({
            name: z.enum(["cpu", "memory"]),
            target: strict({ type: z.enum(["Utilization", "AverageValue"]), averageUtilization: z.int() }),
          }),
        }),
      ),
    }),
  }),
]);
