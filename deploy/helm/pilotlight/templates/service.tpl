apiVersion: v1
kind: Service
metadata:
  name: {{ include "pilotlight.name" . }}
  labels: {{- include "pilotlight.labels" . | nindent 4 }}
spec:
  type: {{ .Values.service.type }}
  selector: {{- include "pilotlight.selector" . | nindent 4 }}
  ports:
    - { name: grpc, port: {{ .Values.service.grpcPort }}, targetPort: grpc, appProtocol: kubernetes.io/h2c }
    - { name: http, port: {{ .Values.service.httpPort }}, targetPort: http }
