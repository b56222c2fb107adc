{{/* Parts that the chart's pods and workloads share. */}}

{{/* The first lines of a pod's spec: dict root account uid. */}}
{{- define "gsi.podBasics" -}}
serviceAccountName: {{ include "gsi.fullname" .root }}{{ .account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if not (kindIs "invalid" .uid) }}
{{- $uid := int .uid -}}
{{- $context = merge $context (dict "runAsUser" $uid "runAsGroup" $uid "fsGroup" $uid "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end }}
securityContext:
  {{- toYaml (mergeOverwrite $context (deepCopy .root.Values.security.podSecurityContext)) | nindent 2 }}
{{- end }}

{{/* dict root own: of all containers, and over it the component's own. */}}
{{- define "gsi.containerSecurity" -}}
{{- $context := dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- $context = mergeOverwrite $context (deepCopy .root.Values.security.containerSecurityContext) (deepCopy (.own | default dict)) -}}
securityContext:
  {{- toYaml $context | nindent 2 }}
{{- end }}

{{/* Where a pod may run. Takes the values of its component. */}}
{{- define "gsi.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $ $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with get $ "priorityClassName" }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The same for pods of which one is enough to go on: on different nodes where that is possible, unless the values say where. Takes
a dict root component values. */}}
{{- define "gsi.spreadPlacement" -}}
{{- $values := .values -}}
{{- if not (or $values.affinity $values.topologySpreadConstraints) -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" (dict "matchLabels" (include "gsi.selectorLabels" . | fromYaml)) -}}
{{- $preferred := list (dict "weight" 100 "podAffinityTerm" $term) -}}
{{- $values = merge (dict "affinity" (dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" $preferred))) $values -}}
{{- end -}}
{{ include "gsi.placement" $values }}
{{- end }}

{{/* Native gRPC probes of the plain-text health port: dict probes startup (the service that the startup probe checks). */}}
{{- define "gsi.probes" -}}
startupProbe:
  grpc: {port: 50052{{ with .startup }}, service: {{ . }}{{ end }}}
  {{- toYaml .probes.startup | nindent 2 }}
livenessProbe:
  grpc: {port: 50052, service: liveness}
  {{- toYaml .probes.liveness | nindent 2 }}
readinessProbe:
  grpc: {port: 50052}
  {{- toYaml .probes.readiness | nindent 2 }}
{{- end }}

{{/* Settings that every process has: dict root prefix (GSI_DRAFT_). */}}
{{- define "gsi.commonEnv" -}}
- {name: {{ .prefix }}HEALTH_LISTEN, value: "0.0.0.0:50052"}
- {name: {{ .prefix }}METRICS_LISTEN, value: "0.0.0.0:9464"}
- {name: {{ .prefix }}LOG_FORMAT, value: json}
- {name: {{ .prefix }}LOG_LEVEL, value: {{ .logLevel }}}
{{ include "gsi.tlsEnv" . }}
{{- with .root.Values.tracing.endpoint }}
- {name: {{ $.prefix }}TRACES_ENDPOINT, value: {{ . | quote }}}
- {name: {{ $.prefix }}TRACES_SAMPLE_RATIO, value: {{ $.root.Values.tracing.sampleRatio | quote }}}
{{- end }}
{{- end }}

{{/* Whether gRPC has TLS, and with which files: dict root prefix. */}}
{{- define "gsi.tlsEnv" -}}
{{- if .root.Values.tls.enabled -}}
- {name: {{ .prefix }}TLS_CERT, value: /secrets/tls/tls.crt}
- {name: {{ .prefix }}TLS_KEY, value: /secrets/tls/tls.key}
- {name: {{ .prefix }}TLS_CA, value: /secrets/tls/ca.crt}
{{- else -}}
- {name: {{ .prefix }}PLAINTEXT, value: "true"}
{{- end }}
{{- end }}

{{/* Where whoever calls the models finds them. */}}
{{- define "gsi.modelAddresses" -}}
- {name: GSI_COORDINATOR_DRAFT, value: {{ include "gsi.address" (dict "root" . "role" "draft") | quote }}}
- {name: GSI_COORDINATOR_TARGET, value: {{ include "gsi.address" (dict "root" . "role" "target") | quote }}}
- {name: GSI_COORDINATOR_PRM, value: {{ include "gsi.address" (dict "root" . "role" "prm") | quote }}}
{{- end }}

{{/* The Secret with the certificate of a component: dict root component. */}}
{{- define "gsi.tlsSecret" -}}
{{- $tls := .root.Values.tls }}
{{- default (printf "%s-%s-tls" (include "gsi.fullname" .root) .component) (default $tls.existingSecret (get $tls.existingSecrets .component)) }}
{{- end }}

{{/* The name in the certificate that cert-manager makes for coordinators. Other releases may have the same authority. */}}
{{- define "gsi.coordinatorName" -}}
{{ include "gsi.fullname" . }}-coordinator.{{ .Release.Namespace }}
{{- end }}

{{/* The names of the certificates that may call the models; empty: every certificate of the authority may. */}}
{{- define "gsi.tlsCallers" -}}
{{- if .Values.tls.callers }}
{{- join "," .Values.tls.callers }}
{{- else if not (include "gsi.tlsSecretsGiven" .) }}
{{- include "gsi.coordinatorName" . }}
{{- end }}
{{- end }}

{{/* The ConfigMap with the coordinators' router; empty: there is none. */}}
{{- define "gsi.routerMap" -}}
{{- with .Values.coordinator.router }}
{{- if .json }}{{ include "gsi.fullname" $ }}-router{{ else }}{{ .configMap }}{{ end }}
{{- end }}
{{- end }}

{{/* Whether a Secret of the coordinator's certificate is given, so that its name is unknown here. */}}
{{- define "gsi.tlsSecretsGiven" -}}
{{- if or .Values.tls.existingSecret .Values.tls.existingSecrets.coordinator }}yes{{ end }}
{{- end }}

{{/* The number of pods of a Deployment: dict root component values. A scaler's is what runs, or its minimum where that is not
known: without a number, Kubernetes would take 1 when the scaler is turned on. */}}
{{- define "gsi.replicas" -}}
{{- if .values.autoscaling.enabled -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace (printf "%s-%s" (include "gsi.fullname" .root) .component) -}}
{{- if $live }}{{ $live.spec.replicas | int }}{{ else }}{{ .values.autoscaling.minReplicas }}{{ end }}
{{- else -}}
{{ .values.replicas }}
{{- end }}
{{- end }}

{{/* How a Deployment replaces its pods: dict strategy type. */}}
{{- define "gsi.strategy" -}}
type: {{ .type }}
{{- if eq .type "RollingUpdate" }}
rollingUpdate: {maxSurge: {{ .strategy.maxSurge }}, maxUnavailable: {{ .strategy.maxUnavailable }}}
{{- end }}
{{- end }}

{{/* A PodDisruptionBudget: dict root component values. */}}
{{- define "gsi.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "gsi.fullname" .root }}-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gsi.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ .values.pdb.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "gsi.selectorLabels" . | nindent 6 }}
{{- end }}

{{/* Up by two pods a minute; down late and one pod at a time, since each pod drains. Takes the values of a scaler. */}}
{{- define "gsi.scalingBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 30
  policies: [{type: Pods, value: 2, periodSeconds: 60}]
scaleDown:
  stabilizationWindowSeconds: {{ .scaleDownSeconds }}
  policies: [{type: Pods, value: 1, periodSeconds: 120}]
{{- end }}
